/**
 * Builds dist/: ESM and CJS for bundlers, with types, and herd.js for a script element.
 *
 * Rolldown bundles: it comes with Vite, which builds the dashboard, and runs on every supported Node.js. herd.js is minified by Rolldown
 * and then by Terser, which together make a smaller file than either.
 */
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import process from 'node:process';
import { rolldown } from 'rolldown';
import { minify } from 'terser';

process.chdir(import.meta.dirname);

async function bundle(input, output) {
  const build = await rolldown({ input, transform: { target: 'es2019' } });
  const {
    output: [chunk],
  } = await build.generate(output);
  await build.close();
  return chunk.code;
}

/** Writes a file unless it is there as it is: the collector, in which herd.js is embedded, is compiled again when that file is newer. */
async function put(name, content) {
  const known = await readFile(`dist/${name}`, 'utf8').catch(() => null);
  if (known !== content) await writeFile(`dist/${name}`, content);
}

await mkdir('dist', { recursive: true });
await put('index.js', await bundle('src/index.ts', { format: 'esm' }));
await put('index.cjs', await bundle('src/index.ts', { format: 'cjs' }));
const script = await bundle('src/script.ts', {
  format: 'iife',
  minify: { compress: true, mangle: false, codegen: { removeWhitespace: true } },
});
const { code } = await minify(script, {
  ecma: 2019,
  toplevel: true,
  compress: {
    passes: 5,
    unsafe: true,
    unsafe_arrows: true,
    unsafe_methods: true,
    booleans_as_integers: true,
    pure_getters: true,
  },
  format: { comments: false },
});
// One keyword compresses better than two. No string of the tracker contains it.
await put('herd.js', code.replaceAll('const ', 'let '));

// Types: what the package exports, once for each kind of module.
execFileSync('npx', ['tsc', '--project', 'tsconfig.build.json'], { stdio: 'inherit' });
for (const name of ['index', 'auto', 'types']) {
  const declarations = await readFile(`dist/all/${name}.d.ts`, 'utf8');
  for (const kind of ['', 'c'].map((letter) => [letter ? '.d.cts' : '.d.ts', letter ? '.cjs' : '.js']))
    await put(`${name}${kind[0]}`, declarations.replace(/'(\.\/\w+)'/g, `'$1${kind[1]}'`));
}
await rm('dist/all', { recursive: true });
