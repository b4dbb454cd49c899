/**
 * A client of the Container Runtime Interface as kubelet is one: gRPC (HTTP/2, one message in a frame of five bytes) with
 * the messages of runtime.v1 that a pod's life needs.
 */
import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { createConnection } from 'node:net';
import protobuf from 'protobufjs';
import { within } from '../harness/deadline.ts';

const { root } = protobuf.parse(
  `
syntax = "proto3";
package runtime.v1;
message PodSandboxMetadata { string name = 1; string uid = 2; string namespace = 3; uint32 attempt = 4; }
message NamespaceOption { int32 network = 1; int32 pid = 2; int32 ipc = 3; }
message LinuxSandboxSecurityContext { NamespaceOption namespace_options = 1; }
message LinuxPodSandboxConfig { string cgroup_parent = 1; LinuxSandboxSecurityContext security_context = 2; }
message PodSandboxConfig {
  PodSandboxMetadata metadata = 1; string hostname = 2; string log_directory = 3; LinuxPodSandboxConfig linux = 8;
}
message RunPodSandboxRequest { PodSandboxConfig config = 1; string runtime_handler = 2; }
message RunPodSandboxResponse { string pod_sandbox_id = 1; }
message StopPodSandboxRequest { string pod_sandbox_id = 1; }
message StopPodSandboxResponse {}
message RemovePodSandboxRequest { string pod_sandbox_id = 1; }
message RemovePodSandboxResponse {}
message ContainerMetadata { string name = 1; uint32 attempt = 2; }
message ImageSpec { string image = 1; }
message KeyValue { string key = 1; string value = 2; }
message LinuxContainerResources {
  int64 cpu_period = 1; int64 cpu_quota = 2; int64 cpu_shares = 3; int64 memory_limit_in_bytes = 4;
}
message LinuxContainerSecurityContext { NamespaceOption namespace_options = 3; }
message LinuxContainerConfig { LinuxContainerResources resources = 1; LinuxContainerSecurityContext security_context = 2; }
message ContainerConfig {
  ContainerMetadata metadata = 1; ImageSpec image = 2; repeated string command = 3; repeated string args = 4;
  string working_dir = 5; repeated KeyValue envs = 6; string log_path = 11; LinuxContainerConfig linux = 15;
}
message CreateContainerRequest { string pod_sandbox_id = 1; ContainerConfig config = 2; PodSandboxConfig sandbox_config = 3; }
message CreateContainerResponse { string container_id = 1; }
message StartContainerRequest { string container_id = 1; }
message StartContainerResponse {}
message StopContainerRequest { string container_id = 1; int64 timeout = 2; }
message StopContainerResponse {}
message ExecSyncRequest { string container_id = 1; repeated string cmd = 2; int64 timeout = 3; }
message ExecSyncResponse { bytes stdout = 1; bytes stderr = 2; int32 exit_code = 3; }
message UpdateContainerResourcesRequest { string container_id = 1; LinuxContainerResources linux = 2; }
message UpdateContainerResourcesResponse {}
message ContainerStatusRequest { string container_id = 1; bool verbose = 2; }
message ContainerStatus { string id = 1; int32 state = 3; int32 exit_code = 7; }
message ContainerStatusResponse { ContainerStatus status = 1; map<string, string> info = 2; }
`,
  { keepCase: true },
);

export type Message = { readonly [field: string]: unknown };

export class CriClient {
  readonly #session: ClientHttp2Session;

  constructor(socket: string) {
    this.#session = connect('http://localhost', { createConnection: () => createConnection(socket) });
    this.#session.on('error', () => undefined);
  }

  /** @throws with the status and message of gRPC. */
  async call(method: string, request: Message): Promise<Message> {
    const type = root.lookupType(`runtime.v1.${method}Request`);
    const answer = root.lookupType(`runtime.v1.${method}Response`);
    const body = Buffer.from(type.encode(type.fromObject(request)).finish());
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    const stream = this.#session.request({
      ':method': 'POST',
      ':path': `/runtime.v1.RuntimeService/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let status: { readonly code: string; readonly message: string } | undefined;
    const note = (headers: { readonly [name: string]: unknown }): void => {
      const code = headers['grpc-status'];
      if (code !== undefined)
        status = { code: String(code), message: decodeURIComponent(String(headers['grpc-message'] ?? '')) };
    };
    stream.on('response', note);
    stream.on('trailers', note);
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.end(Buffer.concat([head, body]));
    await within(once(stream, 'close'), method, 60_000);
    if (status?.code !== '0') throw new Error(`${method}: ${status?.code}: ${status?.message}`);
    return answer.toObject(answer.decode(Buffer.concat(parts).subarray(5)), { defaults: true }) as Message;
  }

  close(): void {
    this.#session.close();
  }
}
