/**
 * The size of the tracker beside those of others: each is installed from npm into a temporary folder, and bundled with what a page calls
 * at least. Code that is loaded later is counted apart.
 *
 *   npm run build -w tracker && node e2e/sizes.mjs
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { rolldown } from 'rolldown';

/** Package and its own quick start: page views. */
const PEERS = [
  [
    'plausible-tracker',
    `import Plausible from 'plausible-tracker'; Plausible({ domain: 'a.example' }).enableAutoPageviews();`,
  ],
  [
    '@plausible-analytics/tracker',
    `import { init } from '@plausible-analytics/tracker'; init({ domain: 'a.example' });`,
  ],
  [
    '@openpanel/web',
    `import { OpenPanel } from '@openpanel/web'; new OpenPanel({ clientId: 'a', trackScreenViews: true });`,
  ],
  [
    '@snowplow/browser-tracker',
    `import { newTracker, trackPageView } from '@snowplow/browser-tracker'; newTracker('a', 'c.example', {}); trackPageView();`,
  ],
  [
    '@segment/analytics-next',
    `import { AnalyticsBrowser } from '@segment/analytics-next'; AnalyticsBrowser.load({ writeKey: 'a' }).page();`,
  ],
  ['posthog-js', `import posthog from 'posthog-js'; posthog.init('a', {});`],
];
const OURS = `import { HerdTracker, trackPages } from '@herd/tracker';
  HerdTracker.init({ endpoint: 'https://c.example/track', key: 'a' }); trackPages(HerdTracker);`;

const size = (code) => gzipSync(code, { level: 9 }).length;

async function bundle(folder, code) {
  const entry = join(folder, 'entry.mjs');
  await writeFile(entry, code);
  const build = await rolldown({
    input: entry,
    platform: 'browser',
    transform: { define: { 'process.env.NODE_ENV': '"production"' } },
    logLevel: 'silent',
  });
  const { output } = await build.generate({ format: 'esm', minify: true });
  await build.close();
  const chunks = output.filter(({ type }) => type === 'chunk');
  const sum = (which) => which.reduce((total, chunk) => total + size(chunk.code), 0);
  // What the entry imports statically is loaded with it.
  const first = new Set();
  const add = (chunk) => {
    if (!chunk || first.has(chunk)) return;
    first.add(chunk);
    chunk.imports.forEach((name) => add(chunks.find(({ fileName }) => fileName === name)));
  };
  add(chunks.find(({ isEntry }) => isEntry));
  return [sum([...first]), sum(chunks.filter((chunk) => !first.has(chunk)))];
}

const folder = await mkdtemp(join(tmpdir(), 'herd-sizes-'));
try {
  await writeFile(join(folder, 'package.json'), '{"private":true}');
  const tracker = resolve(import.meta.dirname, '../tracker');
  const names = PEERS.map(([name]) => name);
  execFileSync(
    'npm',
    ['install', '--silent', '--no-audit', '--no-fund', '--ignore-scripts', ...names, tracker],
    {
      cwd: folder,
      stdio: 'inherit',
    },
  );
  const require = createRequire(join(folder, 'package.json'));
  const rows = [['herd.js', '', size(await readFile(join(tracker, 'dist/herd.js'))), 0]];
  for (const [name, code] of [['@herd/tracker', OURS], ...PEERS]) {
    const path = join(folder, 'node_modules', name, 'package.json');
    rows.push([name, require(path).version, ...(await bundle(folder, code))]);
  }
  console.log('| package | version | bytes with gzip | loaded later |\n|---|---|---:|---:|');
  for (const row of rows) console.log(`| ${row.join(' | ')} |`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
