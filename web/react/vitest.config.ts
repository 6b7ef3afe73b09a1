import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const at18 = (name: string) => fileURLToPath(new URL(`../react18/node_modules/${name}`, import.meta.url));

const testingLibrary = fileURLToPath(
  new URL('../node_modules/@testing-library/react/dist/@testing-library/react.esm.js', import.meta.url),
);

const test = { environment: 'jsdom', include: ['test/*.test.{ts,tsx}'] };

// All tests run against both versions of React. Testing Library is bundled, so that it gets the same React as the tests.
export default defineConfig({
  test: {
    projects: [
      { test: { ...test, name: 'React 19', env: { REACT: '19' } } },
      {
        resolve: {
          alias: {
            react: at18('react'),
            'react-dom': at18('react-dom'),
            '@testing-library/react': testingLibrary,
          },
        },
        test: {
          ...test,
          name: 'React 18',
          env: { REACT: '18' },
          server: { deps: { inline: [/@testing-library\/react/] } },
        },
      },
    ],
  },
});
