/** The page of the test, built with Vite, and its server: the page's own origin, which forwards to the API, and can cut it off. */
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import react from '@vitejs/plugin-react';
import { build } from 'vite';

/** Builds the page in memory: `development` is the mode in which StrictMode mounts components twice. */
export async function buildPage(mode) {
  process.env.NODE_ENV = mode;
  const { output } = await build({
    root: join(import.meta.dirname),
    configFile: false,
    mode,
    logLevel: 'error',
    plugins: [react()],
    build: { write: false, minify: mode === 'production' },
  });
  return new Map(
    output.map((file) => [`/${file.fileName}`, file.type === 'chunk' ? file.code : file.source]),
  );
}

const TYPES = { js: 'text/javascript', css: 'text/css', html: 'text/html' };

/** Serves the files, `/api` and `/ws`. While `site.isCut`, nothing comes from the API, and open connections to it are broken. */
export async function startSite(files, apiPort, shop) {
  const sockets = new Set();
  const site = { refused: 0, isCut: false };
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://site');
    const path = pathname === '/' ? '/index.html' : pathname;
    if (!files.has(path)) {
      response.writeHead(404);
      return response.end();
    }
    response.writeHead(200, { 'content-type': TYPES[path.split('.').at(-1)] });
    const setup = `<script>window.shop = ${JSON.stringify(shop)}</script>`;
    response.end(
      path === '/index.html' ? files.get(path).replace('<head>', `<head>${setup}`) : files.get(path),
    );
  });
  server.on('upgrade', (request, socket) => {
    if (site.isCut) {
      site.refused++;
      return socket.destroy();
    }
    // The headers go on as they are, also Host: the API takes the page for one of its own.
    const lines = request.rawHeaders.reduce(
      (text, value, index) => text + (index % 2 ? `: ${value}\r\n` : value),
      '',
    );
    const upstream = net.connect(apiPort, '127.0.0.1', () => {
      upstream.write(`GET ${request.url} HTTP/1.1\r\n${lines}\r\n`);
      upstream.pipe(socket).pipe(upstream);
    });
    const end = () => {
      sockets.delete(socket);
      upstream.destroy();
      socket.destroy();
    };
    sockets.add(socket);
    for (const side of [socket, upstream]) side.on('error', end).on('close', end);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  site.origin = `http://127.0.0.1:${server.address().port}`;
  site.cut = () => {
    site.isCut = true;
    sockets.forEach((socket) => socket.destroy());
  };
  site.restore = () => {
    site.isCut = false;
  };
  site.close = () => {
    sockets.forEach((socket) => socket.destroy());
    server.closeAllConnections();
    server.close();
  };
  return site;
}
