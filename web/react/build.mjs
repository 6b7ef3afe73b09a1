/**
 * Builds dist/: ESM and CJS for bundlers, with types, and the style sheet of the widgets. What the package shares with the dashboard
 * (the live connection, the order of alerts and windows) is bundled into it; React and the tracker are not.
 */
import { execFileSync } from 'node:child_process';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import process from 'node:process';
import { rolldown } from 'rolldown';

/** The modules whose types are public. */
const PUBLIC = ['index', 'hooks', 'provider', 'types', 'widgets'];

process.chdir(import.meta.dirname);

async function bundle(format) {
  const build = await rolldown({
    input: 'src/index.ts',
    external: /^(react|@herd\/tracker)(\/|$)/,
    transform: { target: 'es2019' },
  });
  const {
    output: [chunk],
    // Frameworks with server components render these parts in the browser, too.
  } = await build.generate({ format, banner: "'use client';" });
  await build.close();
  return chunk.code;
}

await rm('dist', { recursive: true, force: true });
await mkdir('dist');
await writeFile('dist/index.js', await bundle('esm'));
await writeFile('dist/index.cjs', await bundle('cjs'));
await copyFile('src/styles.css', 'dist/styles.css');

// Types: once for each kind of module.
execFileSync('npx', ['tsc', '--project', 'tsconfig.build.json'], { stdio: 'inherit' });
for (const name of PUBLIC) {
  const declarations = await readFile(`dist/all/react/src/${name}.d.ts`, 'utf8');
  for (const [types, code] of [
    ['.d.ts', '.js'],
    ['.d.cts', '.cjs'],
  ])
    await writeFile(`dist/${name}${types}`, declarations.replace(/'(\.\/\w+)'/g, `'$1${code}'`));
}
await rm('dist/all', { recursive: true });
