/** One request to CRIU until its answer: every notification on the way is answered, a refusal ends it. */
import { join } from 'node:path';
import { CriuError, type Reason } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import type { CriuJob } from './job.ts';
import { logReasons } from './log.ts';
import type { CriuProgress } from './options.ts';
import { checkWords } from './program.ts';
import { type Answer, type Request, RequestType, type Response } from './rpc.ts';

export interface Conversation {
  readonly binding: Binding;
  readonly job: CriuJob;
  readonly program: string;
  readonly operation: CriuError['operation'];
  readonly request: Request;
  /** Directory and name of the log. */
  readonly log: { readonly directory: string; readonly file: string };
  /** Each may throw: CRIU then takes back what it has done, and the error is the caller's. Descriptors are taken or closed. */
  readonly onNotification: (script: string, pid: number, fds: readonly number[]) => Promise<void>;
  readonly onProgress: ((progress: CriuProgress) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** CRIU has ended without an answer: killed, or it crashed. What it had begun may be half done. */
export class CriuGone extends Error {}

/** @returns CRIU's answer, a success. @throws {CriuError} and what `onNotification` throws; the cause may be a CriuGone */
export async function converse(conversation: Conversation): Promise<Response> {
  const { job, request, operation } = conversation;
  const started = performance.now();
  const progress = (stage: string): void =>
    conversation.onProgress?.({ stage, elapsedMs: performance.now() - started });
  let refusal: { readonly error: unknown } | undefined;
  if (!job.session.send(request)) throw await gone(conversation);
  for (;;) {
    const answer = await job.session.next();
    if (answer === undefined) throw refusal?.error ?? (await gone(conversation));
    const { response } = answer;
    if (response.type === RequestType.NOTIFY && response.success) {
      const script = response.notify?.script ?? '';
      refusal ??= await notified(conversation, answer);
      progress(script);
      job.session.send({ type: RequestType.NOTIFY, notifySuccess: refusal === undefined });
      continue;
    }
    for (const fd of answer.fds) conversation.binding.close(fd);
    if (refusal !== undefined) throw refusal.error;
    if (!response.success) throw await failed(conversation, response);
    if (response.type !== request.type)
      throw new CriuError('ERR_CRIU', { operation }, { detail: `an answer of type ${response.type}` });
    progress('done');
    return response;
  }
}

/** The error that makes us refuse, if any. */
async function notified(
  { onNotification, signal }: Conversation,
  { response, fds }: Answer,
): Promise<{ readonly error: unknown } | undefined> {
  try {
    await onNotification(response.notify?.script ?? '', response.notify?.pid ?? 0, fds);
    signal?.throwIfAborted();
    return undefined;
  } catch (error) {
    return { error };
  }
}

const logPath = ({ log }: Conversation): string => join(log.directory, log.file);

async function failed(conversation: Conversation, response: Response): Promise<CriuError> {
  const { operation, program } = conversation;
  const path = logPath(conversation);
  const inLog = await logReasons(path);
  const reasons = inLog.length === 0 && response.crErrmsg ? [response.crErrmsg] : inLog;
  // Before it has a log it looks at the kernel: its own check then tells why it cannot.
  const words = reasons.length === 0 ? await checkWords(program) : [];
  const code: Reason = words.length > 0 ? 'ERR_CRIU_UNABLE' : 'ERR_CRIU';
  const errno = response.crErrno ? ` (errno ${response.crErrno})` : '';
  const said = reasons[0] ?? (words.length > 0 ? `criu check: ${words.join('; ')}` : 'it gave no reason');
  return new CriuError(
    code,
    { operation, reasons: reasons.length > 0 ? reasons : words, logPath: path },
    { detail: `${operation}: ${said}${errno}` },
  );
}

async function gone(conversation: Conversation): Promise<CriuError> {
  const { operation, job } = conversation;
  const { how } = await job.ended;
  const path = logPath(conversation);
  return new CriuError(
    'ERR_CRIU',
    { operation, reasons: await logReasons(path), logPath: path },
    { detail: `${operation}: criu ended without an answer: ${how}`, cause: new CriuGone(how) },
  );
}
