import { expect, it } from 'vitest';
import { fromHash, toHash } from './selection';

it.each([
  [{ metric: null, key: null }, ''],
  [{ metric: 'views', key: null }, '#/views'],
  [{ metric: 'views', key: 'p-1' }, '#/views/p-1'],
  [{ metric: 'by-country', key: 'a/b c%|ü#' }, '#/by-country/a%2Fb%20c%25%7C%C3%BC%23'],
])('%o is written as %s and read back', (selection, hash) => {
  expect(toHash(selection)).toBe(hash);
  expect(fromHash(hash)).toEqual(selection);
});

it('parses a URL typed by a user', () => {
  expect(fromHash('#views/100%')).toEqual({ metric: 'views', key: '100%' });
  expect(fromHash('#/')).toEqual({ metric: null, key: null });
});
