/** The built page, under the API's strict content policy. */
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const POLICY =
  "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};

/** Answers with a file of web/dist, or with the page itself. False: it was not built. */
export async function serveBuilt(pathname, response) {
  const wanted = normalize(pathname).replace(/^(\.\.[/\\])+/, '');
  for (const file of [wanted === '/' ? '/index.html' : wanted, '/index.html']) {
    try {
      const body = await readFile(join(DIST, file));
      const type = TYPES[extname(file)] ?? 'application/octet-stream';
      response.writeHead(200, { 'content-type': type, 'content-security-policy': POLICY }).end(body);
      return true;
    } catch {
      // Not built, or not a file: the page itself answers.
    }
  }
  return false;
}
