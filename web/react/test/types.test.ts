import { expectTypeOf, it } from 'vitest';
import type { Alert, TrendingItem, WindowPoint } from '../../dashboard/src/wire';
import type { HerdAlert, LivePoint, TrendingEntry } from '../src';

// Checked by `tsc`: what the package promises is what the API, by its OpenAPI document, sends.
it('the public types are those of the API', () => {
  expectTypeOf<Alert>().toExtend<HerdAlert>();
  expectTypeOf<TrendingItem>().toExtend<TrendingEntry>();
  expectTypeOf<TrendingEntry>().toExtend<TrendingItem>();
  expectTypeOf<WindowPoint>().toExtend<LivePoint>();
});
