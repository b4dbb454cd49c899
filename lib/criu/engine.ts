/** What the container layer asks of CRIU; one bundle of its own (criu.cjs), loaded by the first checkpoint or restore. */
export { CriuGone } from './conversation.ts';
export { dump } from './dump.ts';
export { restore } from './restore.ts';
export { unlockNetwork } from './unlock.ts';
