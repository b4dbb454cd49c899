/** The executable: its file is dist/nrunc.cjs. */
import { errorText } from './error-text.ts';
import { main } from './main.ts';
import { printError } from './output.ts';

// A detached container's init, watches and streams must not keep the command alive: it ends when its work is done.
main(process.argv.slice(2)).then(
  code => process.exit(code),
  (error: unknown) => {
    printError(`nrunc: ${errorText(error)}\n${error instanceof Error ? error.stack : ''}\n`);
    process.exit(1);
  },
);
