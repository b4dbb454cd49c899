/** Of tar-stream what lib/rootfs/tar.ts uses; its own declarations have no byteOffset, and call pax unknown. */
declare module 'tar-stream' {
  import type { Writable } from 'node:stream';

  export interface Header {
    readonly name: string;
    readonly type: string | null;
    readonly linkname: string | null;
    readonly size: number;
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
    readonly mtime: Date;
    readonly devmajor: number;
    readonly devminor: number;
    /** Where the content begins. */
    readonly byteOffset: number;
    readonly pax: { readonly [keyword: string]: string } | null;
  }
  export interface Entry extends AsyncIterable<Uint8Array> {
    readonly header: Header;
    resume(): void;
  }
  export function extract(options: {
    readonly filenameEncoding: string;
    readonly allowUnknownFormat: boolean;
  }): Writable & AsyncIterable<Entry>;
}

declare module 'tar-stream/headers.js' {
  const headers: {
    decodePax(buffer: Buffer): { [keyword: string]: string };
  };
  export = headers;
}
