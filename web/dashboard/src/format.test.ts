import { describe, expect, it } from 'vitest';
import { ago, duration, full, percent, short, signed, span, times, withoutKey } from './format';

describe('numbers', () => {
  it.each([
    [0, '0'],
    [7, '7'],
    [2.5, '2.5'],
    [78.456, '78.5'],
    [999, '999'],
    [1000, '1k'],
    [1640, '1.64k'],
    [999_949, '1M'],
    [999_400, '999k'],
    [1_284_310, '1.28M'],
    [3.2e9, '3.2B'],
    [-5300, '-5.3k'],
    [Number.NaN, '–'],
  ])('short(%f) is %s', (n, text) => expect(short(n)).toBe(text));

  it.each([
    [1_234_567, '1,234,567'],
    [12.345, '12.3'],
    [4321.7, '4,322'],
    [Infinity, '–'],
  ])('full(%f) is %s', (n, text) => expect(full(n)).toBe(text));

  it.each([
    [0, '0.0 %'],
    [0.0004, '<0.1 %'],
    [0.0432, '4.3 %'],
    [0.1234, '12 %'],
    [1, '100 %'],
    [Number.NaN, '–'],
  ])('percent(%f) is %s', (share, text) => expect(percent(share)).toBe(text));

  it.each([
    [412, 35, '12×'],
    [20, 8, '2.5×'],
    [5, 0, null],
    [5, -1, null],
    [1e9, 1, '>999×'],
  ])('%f against %f is %s', (value, expected, text) => expect(times(value, expected)).toBe(text));
});

describe('times', () => {
  it.each([
    [-5, '0 ms'],
    [450, '450 ms'],
    [1500, '1.5 s'],
    [10_000, '10 s'],
    [60_000, '1 min'],
    [75_000, '75 s'],
    [120_000, '2 min'],
    [3_540_000, '59 min'],
    [3_600_000, '1 h'],
    [3_900_000, '1 h 5 min'],
    [3 * 86_400_000, '3 d'],
    [Number.NaN, '–'],
  ])('span(%i) is %s', (ms, text) => expect(span(ms)).toBe(text));

  it.each([
    [1000, 'just now'],
    [-3000, 'just now'],
    [4900, '4 s ago'],
    [61_000, '61 s ago'],
    [600_000, '10 min ago'],
  ])('%i ms back is %s', (ms, text) => expect(ago(50_000_000 - ms, 50_000_000)).toBe(text));
});

describe('summary of an alert', () => {
  it('omits the key shown in the title', () => {
    expect(withoutKey('p-1: 412 views in 10 s', 'p-1')).toBe('412 views in 10 s');
    expect(withoutKey('nothing of 35 expected', 'p-1')).toBe('Nothing of 35 expected');
    expect(withoutKey('p-1 is going viral: 412 views', 'p-1')).toBe('p-1 is going viral: 412 views');
  });
});

describe('episodes', () => {
  it.each([
    [0, '0 s'],
    [400, '0 s'],
    [50_000, '50 s'],
    [60_000, '1 min'],
    [250_000, '4 min 10 s'],
    [3_600_000, '1 h'],
    [3_900_000, '1 h 5 min'],
    [183_600_000, '2 d 3 h'],
    [Number.NaN, '–'],
  ])('%i ms last %s', (ms, text) => expect(duration(ms)).toBe(text));

  it.each([
    [5120, '+5,120'],
    [-35.25, '−35.3'],
    [0, '0'],
  ])('an excess of %f is %s', (excess, text) => expect(signed(excess)).toBe(text));
});
