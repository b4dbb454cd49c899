/** A pod through containerd's CRI plugin, as kubelet asks for it; the handler of the RuntimeClass is nrunc, then runc. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from '../harness/test.ts';
import { Containerd, requires } from './containerd-daemon.ts';
import { CriClient } from './cri.ts';
import { Cgroup, image, imageArchive, output, underSystemd } from './engine.ts';

const pause = 'localhost/pause:1';

function criConfig(directory: string, binaries: { readonly [handler: string]: string }): string {
  const handlers = Object.entries(binaries).map(
    ([handler, path]) => `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.${handler}]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.${handler}.options]
    BinaryName = "${path}"
    SystemdCgroup = ${underSystemd}
    Root = "${directory}/cri-${handler}"`,
  );
  return `[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pause}"
  disable_apparmor = true
  # A machine's root need not have the capability to lower it.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "${directory}/cni"
${handlers.join('\n')}
`;
}

const network = { network: 2 };

async function pod(cri: CriClient, directory: string, handler: string): Promise<readonly unknown[]> {
  const sandbox = {
    metadata: { name: `pod-${handler}`, uid: handler, namespace: 'default' },
    log_directory: join(directory, `logs-${handler}`),
    // Its network is the host's: a network of its own would need CNI plugins.
    linux: {
      cgroup_parent: underSystemd ? 'system.slice' : '/test-engines',
      security_context: { namespace_options: network },
    },
  };
  const { pod_sandbox_id } = await cri.call('RunPodSandbox', { config: sandbox, runtime_handler: handler });
  const { container_id } = await cri.call('CreateContainer', {
    pod_sandbox_id,
    sandbox_config: sandbox,
    config: {
      metadata: { name: 'one' },
      image: { image },
      command: ['/bin/sh', '-c', 'echo begun; trap "exit 9" TERM; while :; do sleep 1 & wait $!; done'],
      envs: [{ key: 'A', value: 'b' }],
      log_path: 'one.log',
      linux: {
        resources: { memory_limit_in_bytes: 64 << 20 },
        security_context: { namespace_options: network },
      },
    },
  });
  await cri.call('StartContainer', { container_id });
  const exec = await cri.call('ExecSync', {
    container_id,
    cmd: ['sh', '-c', 'echo $A; id -u; echo err >&2; exit 7'],
    timeout: 60,
  });
  const text = (value: unknown): string => Buffer.from(value as Uint8Array).toString();
  const status = async () =>
    (await cri.call('ContainerStatus', { container_id, verbose: true })) as {
      readonly status: { readonly state: number; readonly exit_code: number };
      readonly info: { readonly info: string };
    };
  const cgroup = new Cgroup(Number(JSON.parse((await status()).info.info).pid));
  await cri.call('UpdateContainerResources', {
    container_id,
    linux: { memory_limit_in_bytes: 80 << 20, cpu_quota: 50_000, cpu_period: 100_000 },
  });
  const limits = cgroup.limits();
  const missing = await cri
    .call('ExecSync', { container_id, cmd: ['/nosuch'], timeout: 60 })
    .catch((error: Error) => error.message);
  await cri.call('StopContainer', { container_id, timeout: 30 });
  const ended = await status();
  const log = readFileSync(join(directory, `logs-${handler}`, 'one.log'), 'utf8');
  await cri.call('StopPodSandbox', { pod_sandbox_id });
  await cri.call('RemovePodSandbox', { pod_sandbox_id });
  assert.ok(cgroup.gone(), 'the cgroup is gone');
  return [
    `${exec.exit_code} ${text(exec.stdout)} ${text(exec.stderr)}`,
    limits,
    ended.status.state,
    ended.status.exit_code,
    /stdout F begun/.test(log),
    /exec: ".*?": .*?(?=: unknown)/.exec(String(missing))?.[0] ?? missing,
  ];
}

test('containerd CRI: a pod of the RuntimeClass nrunc lives as one of runc', {
  requires,
  timeoutMs: 60_000,
  leaks: false, // The daemon lives until the end of the file.
}, async t => {
  const daemon = new Containerd((directory, binaries) => criConfig(directory, binaries));
  t.after(() => daemon.stop());
  await daemon.start();
  // The CRI plugin's images are those of its own namespace.
  const ctr = (...words: string[]) => output(daemon.ctrIn('k8s.io'), words);
  await ctr('images', 'import', imageArchive(daemon.directory, ['/bin/sleep', '100000']));
  await ctr('images', 'tag', image, pause);
  const cri = new CriClient(daemon.socket);
  t.after(() => cri.close());
  const control = await pod(cri, daemon.directory, 'runc');
  assert.deepEqual(await pod(cri, daemon.directory, 'nrunc'), control);
  assert.deepEqual(control.slice(0, 5), ['7 b\n0\n err\n', ['83886080', 'max', '50000 100000'], 2, 9, true]);
});
