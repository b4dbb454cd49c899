/** `nrunc completion`: the script that a shell completes our commands with. */
import type { Invocation } from '../invocation.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { bashCompletion, zshCompletion } = await import('../completion.ts');
  const [shell] = invocation.arguments;
  if (shell === 'bash') invocation.caller.print(bashCompletion());
  else if (shell === 'zsh') invocation.caller.print(zshCompletion());
  else throw new Error(`no completion for the shell ${shell}: bash and zsh have one`);
  return 0;
}
