import react from '@vitejs/plugin-react';
import process from 'node:process';
import { defineConfig } from 'vite';

const api = process.env.HERD_API ?? 'http://127.0.0.1:8081';
const collector = process.env.HERD_COLLECTOR ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [react()],
  // The packages are links into this repository, which has a React of its own.
  resolve: { dedupe: ['react', 'react-dom'] },
  server: {
    host: '127.0.0.1',
    // In production, the reverse proxy of the shop does the same.
    proxy: {
      '/ws': { target: api, ws: true },
      '/track': { target: collector },
    },
  },
});
