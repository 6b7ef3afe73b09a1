import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { rolldown } from 'rolldown';
import { describe, expect, it } from 'vitest';

const dist = join(import.meta.dirname, '../dist');
/** Bytes of herd.js with gzip: 2.3 kB. */
const LIMIT = 2300;

describe('the build', () => {
  it('herd.js is small', () => {
    const size = gzipSync(readFileSync(join(dist, 'herd.js')), { level: 9 }).length;
    console.log(`herd.js: ${size} bytes with gzip, of ${LIMIT}`);
    expect(size).toBeLessThanOrEqual(LIMIT);
  });

  it.each(['herd.js', 'index.js', 'index.cjs'])('%s has no syntax later than ES2019', (name) => {
    const kind = name === 'index.js' ? '--module' : '--ecma2019';
    const flags = kind === '--module' ? ['--ecma2019', '--module'] : [kind];
    const acorn = join(import.meta.dirname, '../../node_modules/acorn/bin/acorn');
    execFileSync(process.execPath, [acorn, '--silent', ...flags, join(dist, name)]);
  });

  it('can be imported and required without a browser', async () => {
    const { HerdTracker } = (await import(join(dist, 'index.js'))) as typeof import('../src/index');
    expect(HerdTracker.trackEvent('view')).toBeUndefined();
    const required = `require(${JSON.stringify(join(dist, 'index.cjs'))}).HerdTracker.trackEvent('view')`;
    expect(execFileSync(process.execPath, ['-p', required]).toString().trim()).toBe('undefined');
  });

  it('leaves out what is not used', async () => {
    const bundle = async (code: string) => {
      const build = await rolldown({
        input: 'entry',
        plugins: [
          {
            name: 'entry',
            resolveId: (id) => (id === 'entry' ? id : null),
            load: (id) => (id === 'entry' ? code : null),
          },
        ],
      });
      const { output } = await build.generate({ format: 'esm' });
      await build.close();
      return output[0].code;
    };
    const from = JSON.stringify(join(dist, 'index.js'));
    expect(await bundle(`import { HerdTracker } from ${from}; HerdTracker.init({});`)).not.toContain(
      'pushState',
    );
    const whole = await bundle(`export * from ${from};`);
    expect(whole).toContain('pushState');
    expect((await bundle(`import { trackClicks } from ${from};`)).trim()).toBe('');
  });
});
