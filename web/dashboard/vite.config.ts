import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

// `npm run dev` takes its data from here: the mock server, or the API of a running `herd up`.
const api = process.env.HERD_URL ?? 'http://127.0.0.1:4680';

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    // The page runs under `default-src 'self'`: nothing may become a data: address.
    assetsInlineLimit: 0,
  },
  server: {
    proxy: {
      '/api': api,
      '/ws': { target: api.replace(/^http/, 'ws'), ws: true },
    },
  },
  test: { environment: 'node', include: ['src/**/*.test.ts'] },
});
