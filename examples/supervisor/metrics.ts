/** The services as metrics in OpenMetrics text format 1.0: https://prometheus.io/docs/specs/om/open_metrics_spec/ */
import type { Service } from './service.ts';

export const contentType = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

interface Family {
  readonly name: string;
  readonly type: 'gauge' | 'counter';
  readonly unit?: 'seconds' | 'bytes';
  readonly help: string;
  /** Undefined: there is nothing to tell of this service now. */
  readonly value: (service: Service) => number | undefined;
}

const families: readonly Family[] = [
  {
    name: 'supervisor_service_up',
    type: 'gauge',
    help: 'Whether the service runs.',
    value: ({ phase }) => (phase === 'running' ? 1 : 0),
  },
  {
    name: 'supervisor_service_restarts',
    type: 'counter',
    help: 'Restarts by the policy since the daemon began.',
    value: ({ restarts }) => restarts,
  },
  {
    name: 'supervisor_service_oom_kills',
    type: 'counter',
    help: 'Ends for lack of memory since the daemon began.',
    value: ({ oomKills }) => oomKills,
  },
  {
    name: 'supervisor_service_start_time_seconds',
    type: 'gauge',
    unit: 'seconds',
    help: 'When the container was made, in seconds since 1970.',
    value: ({ pid, startedAt }) => (pid === 0 ? undefined : startedAt / 1000),
  },
  {
    name: 'container_cpu_seconds',
    type: 'counter',
    unit: 'seconds',
    help: 'Processor time of the container.',
    value: ({ pid, history }) => (pid === 0 ? undefined : history.at(-1)?.cpuSeconds),
  },
  {
    name: 'container_memory_bytes',
    type: 'gauge',
    unit: 'bytes',
    help: 'Memory of the container.',
    value: ({ pid, history }) => (pid === 0 ? undefined : history.at(-1)?.memoryBytes),
  },
  {
    name: 'container_memory_limit_bytes',
    type: 'gauge',
    unit: 'bytes',
    help: 'Limit of memory.',
    value: ({ definition }) => definition.memoryBytes,
  },
  {
    name: 'container_processes',
    type: 'gauge',
    help: 'Processes and threads of the container.',
    value: ({ pid, history }) => (pid === 0 ? undefined : history.at(-1)?.pids),
  },
];

const escaped = (text: string): string =>
  text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

export function metrics(services: Iterable<Service>): string {
  const all = [...services];
  const lines = families.flatMap(({ name, type, unit, help, value }) => [
    `# TYPE ${name} ${type}`,
    ...(unit === undefined ? [] : [`# UNIT ${name} ${unit}`]),
    `# HELP ${name} ${escaped(help)}`,
    ...all.flatMap(service => {
      const number = value(service);
      const sample = type === 'counter' ? `${name}_total` : name;
      return number === undefined ? [] : [`${sample}{service="${escaped(service.name)}"} ${number}`];
    }),
  ]);
  return `${[...lines, '# EOF'].join('\n')}\n`;
}
