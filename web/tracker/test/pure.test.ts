import { describe, expect, it } from 'vitest';
import { outcome } from '../src/answer';
import { WAIT_MAX, backoff } from '../src/backoff';
import { join, pick, type Entry } from '../src/batch';
import { quantile, randomId } from '../src/id';
import { learnSkew, withTime } from '../src/skew';
import { STRIPPED, cleanUrl } from '../src/url';

describe('outcome', () => {
  it.each([
    [202, { event_id: 'a' }, ''],
    [207, { code: 'unknown-type' }, 'unknown-type'],
    [503, { event_id: 'a' }, ''],
    [503, { code: 'missing-field' }, 'missing-field'],
    [503, {}, undefined],
    [0, {}, undefined],
    [408, {}, undefined],
    [429, {}, undefined],
    [500, {}, undefined],
    [400, {}, '400'],
    [401, {}, '401'],
    [403, {}, '403'],
    [404, {}, '404'],
    [413, {}, '413'],
    [422, { code: 'future-time' }, 'future-time'],
  ])('of an event in an answer %i with %j is %j', (status, item, expected) => {
    expect(outcome(status, item, 0)).toBe(expected);
  });

  it('of an old event is the end if it fails again', () => {
    expect(outcome(0, {}, 8 * 864e5)).toBe('expired');
    expect(outcome(202, { event_id: 'a' }, 8 * 864e5)).toBe('');
  });

  it('of a success without results is to send again: another server may have answered', () => {
    expect(outcome(200, {}, 0)).toBeUndefined();
  });
});

describe('backoff', () => {
  it('is anywhere below a bound that doubles', () => {
    expect(backoff(1, 0, 0)).toBe(0);
    expect(backoff(1, 0, 0.5)).toBe(1000);
    expect(backoff(4, 0, 0.5)).toBe(8000);
  });
  it('is at most five minutes', () => expect(backoff(60, 0, 1)).toBe(300_000));
  it('is never shorter than the collector asks', () => expect(backoff(1, 30, 0)).toBe(30_000));
  it('spreads what the collector asks', () => expect(backoff(1, 30, 0.5)).toBe(31_000));
  it('is at most an hour', () => expect(backoff(1, 1e6, 0.5)).toBe(WAIT_MAX));
});

describe('pick', () => {
  const entries = (...bodies: string[]): Entry<null>[] =>
    bodies.map((body, index) => [`${index}`, body, null]);
  it('takes what fits', () => {
    const all = entries('aaaa', 'bbbb', 'cccc');
    const picked = pick(all, 12);
    expect(picked).toEqual(all.slice(0, 2));
    expect(join(picked)).toBe('[aaaa,bbbb]');
  });
  it('counts bytes, not characters', () => {
    const all = entries('éééé', 'b');
    expect(pick(all, 11)).toEqual(all.slice(0, 1));
    expect(pick(all, 12)).toEqual(all);
  });
  it('keeps the body within the bound at each bound', () => {
    const all = entries('a', 'bb', 'ccc', '€', 'ddddd', '😀');
    for (let max = 4; max < 40; max++)
      expect(new TextEncoder().encode(join(pick(all, max))).length).toBeLessThanOrEqual(max);
  });
  it('takes the first one alone if it is too large', () => {
    const all = entries('a'.repeat(50), 'b');
    expect(pick(all, 20)).toEqual(all.slice(0, 1));
  });
  it('takes nothing of nothing', () => expect(pick([], 20)).toEqual([]));
});

describe('skew', () => {
  const at = (ms: number) => new Date(ms).toUTCString();
  const now = Date.UTC(2026, 0, 1, 12);
  it.each([
    ['no skew', 0, 0],
    ['half a second, which the header cannot tell', 500, 0],
    ['a day ahead', 864e5, 864e5],
    ['a day behind', -864e5, -864e5],
    ['ten seconds', 1e4, 1e4],
  ])('is learnt: %s', (_, skew, expected) => {
    const learnt = learnSkew(at(now + 50 + skew), now, now + 100);
    expect(Math.abs(learnt - expected)).toBeLessThanOrEqual(expected && 550);
  });
  it('is not learnt from a slow answer that explains the difference', () =>
    expect(learnSkew(at(now + 4000), now, now + 20_000)).toBe(0));
  it('is unknown without the header', () => expect(learnSkew(null, now, now)).toBeNaN());
  it('is unknown with a header that is no date', () => expect(learnSkew('soon', now, now)).toBeNaN());

  const event = { event_id: 'a', type: 'view', time: now };
  it('corrects the time of an event', () => expect(withTime(event, -5000).time).toBe(now - 5000));
});

describe('id', () => {
  it('is different each time', () => expect(new Set(Array.from({ length: 1000 }, randomId)).size).toBe(1000));
  it('has a quantile that stays', () => {
    const id = randomId();
    expect(quantile(id)).toBe(quantile(id));
  });
  it('has quantiles that are spread evenly', () => {
    const below = Array.from({ length: 20_000 }, () => quantile(randomId())).filter((value) => value < 0.25);
    // Four standard deviations.
    expect(Math.abs(below.length - 5000)).toBeLessThan(4 * Math.sqrt(20_000 * 0.25 * 0.75));
  });
});

describe('cleanUrl', () => {
  it.each([
    ['https://a.example/p?q=1&token=secret&email=a%40b', 'https://a.example/p?q=1'],
    ['https://a.example/p?token=secret', 'https://a.example/p'],
    ['https://a.example/p?token=1&token=2#access_token=3', 'https://a.example/p'],
    ['https://a.example/token/?q=token', 'https://a.example/token/?q=token'],
    ['', ''],
  ])('of %s is %s', (address, expected) => expect(cleanUrl(address, STRIPPED)).toBe(expected));
  it('removes the parameters of the list only', () =>
    expect(cleanUrl('https://a.example/?token=1&sid=2', 'sid')).toBe('https://a.example/?token=1'));
});
