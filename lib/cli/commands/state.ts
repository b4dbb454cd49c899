/** `nrunc state`: the OCI state with runc's additions. */
import { goJson, goMap } from '../go-json.ts';
import { containerIdOf, type Invocation, openFactory } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  await using container = await openFactory(invocation).load(containerIdOf(invocation));
  const { ociVersion, id, pid, status, bundle, annotations } = await container.ociState();
  const { created } = await container.state();
  const document = {
    ociVersion,
    id,
    pid,
    status,
    bundle,
    rootfs: container.config.rootfs,
    created,
    annotations: goMap(annotations),
    // runc leaves it empty here and fills it in `list`.
    owner: '',
  };
  // No newline at the end: so does runc.
  invocation.caller.print(goJson(document, '  '));
  return 0;
}
