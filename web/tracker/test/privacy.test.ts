import { describe, expect, it, vi } from 'vitest';
import { trackClicks, trackPages } from '../src/auto';
import { openBrowser } from './browser';
import { NOW, names, start, tick, useFakeClock } from './tab';

useFakeClock();

describe('privacy', () => {
  it('consent required: nothing is stored or sent before it is given', async () => {
    const browser = openBrowser({ isNew: true });
    const tracker = start({ consent: 'required' });
    tracker.identify('u-1');
    const id = tracker.track('view');
    await tick(60_000);
    browser.dispatch('pagehide');
    expect(Object.keys(browser.storage)).toEqual([]);
    expect(browser.requests).toHaveLength(0);
    expect(browser.beacons).toHaveLength(0);
    browser.dispatch('pageshow');
    tracker.optIn();
    await tick(3000);
    expect(browser.sent()).toMatchObject([{ event_id: id, user_id: 'u-1' }]);
    expect(browser.storage['herd:k:c']).toBe('1');
    start({ consent: 'required' }).track('view');
    await tick(3000);
    expect(browser.sent()).toHaveLength(2);
  });

  it('refused: what waits, the user and the visitor are deleted, and later pages keep to it', async () => {
    const browser = openBrowser();
    const tracker = start();
    tracker.identify('u-1');
    tracker.track('view');
    tracker.optOut();
    expect(Object.keys(browser.storage)).toEqual(['herd:k:c']);
    expect(tracker.track('view')).toBeUndefined();
    expect(start().track('view')).toBeUndefined();
    browser.dispatch('pagehide');
    await tick(10_000);
    expect(browser.requests).toHaveLength(0);
    expect(browser.beacons).toHaveLength(0);
    tracker.optIn();
    expect(tracker.track('view')).toBeTypeOf('string');
  });

  it.each([{ doNotTrack: '1' }, { globalPrivacyControl: true }])('%j counts by option', (signal) => {
    openBrowser();
    Object.assign(navigator, signal);
    expect(start().track('view')).toBeTypeOf('string');
    expect(start({ respectDnt: true }).track('view')).toBeUndefined();
  });

  it('doNotTrack "0" is no refusal', () => {
    openBrowser();
    Object.assign(navigator, { doNotTrack: '0' });
    expect(start({ respectDnt: true }).track('view')).toBeTypeOf('string');
  });

  it('a visitor has one id over pages, a new one after visitorDays, none with 0', async () => {
    const browser = openBrowser();
    start().track('a');
    start().track('b');
    await tick(3000);
    vi.setSystemTime(NOW + 31 * 864e5);
    start().track('c');
    start({ visitorDays: '0' }).track('d');
    await tick(3000);
    const users = new Map(browser.sent().map((event) => [event.type, event.user_id]));
    expect(users.get('a')).toMatch(/^[\d-]{10,}$/);
    expect(users.get('b')).toBe(users.get('a'));
    expect(users.get('c')).toMatch(/^[\d-]{10,}$/);
    expect(users.get('c')).not.toBe(users.get('a'));
    expect(users.get('d')).toBe('');
  });

  it('a user is kept over pages until reset', async () => {
    const browser = openBrowser();
    const tracker = start();
    tracker.identify('u-1');
    start().track('a');
    await tick(3000);
    tracker.reset();
    tracker.track('b');
    await tick(3000);
    expect(browser.sent()[0]?.user_id).toBe('u-1');
    expect(browser.sent()[1]?.user_id).not.toBe('u-1');
  });

  it('a visitor is in the sample or not, with all events', () => {
    let sampled = 0;
    for (let visitor = 0; visitor < 400; visitor++) {
      openBrowser();
      const answers = [start({ sample: '0.25' }), start({ sample: 0.25 })].map((tab) => !!tab.track('view'));
      expect(answers[0]).toBe(answers[1]);
      if (answers[0]) sampled++;
    }
    // Four standard deviations.
    expect(Math.abs(sampled - 100)).toBeLessThan(4 * Math.sqrt(400 * 0.25 * 0.75));
  });
});

describe('automatic events', () => {
  it('page views: the first, those of the history, and returns from the cache', async () => {
    const browser = openBrowser();
    trackPages(start());
    history.pushState(null, '', '/p?other');
    location.pathname = '/q';
    history.pushState(null, '', '/q');
    location.pathname = '/p';
    browser.dispatch('popstate');
    browser.dispatch('pageshow', { persisted: false });
    browser.dispatch('pageshow', { persisted: true });
    await tick(3000);
    expect(
      browser
        .sent()
        .map((event) => event.item_id)
        .sort(),
    ).toEqual(['/p', '/p', '/p', '/q']);
    expect(new Set(browser.sent().map((event) => event.type))).toEqual(new Set(['page_view']));
  });

  it('a page loaded ahead is viewed when it is shown', () => {
    const browser = openBrowser();
    Object.assign(document, { prerendering: true });
    const tracker = start();
    trackPages(tracker);
    expect(names(browser.storage)).toHaveLength(0);
    browser.dispatch('prerenderingchange');
    expect(names(browser.storage)).toHaveLength(1);
  });

  it('clicks on marked elements', async () => {
    const browser = openBrowser();
    trackClicks(start());
    const click = (dataset?: object) => {
      browser.dispatch('click', { target: { closest: () => dataset && { dataset } } });
    };
    click();
    click({ herdEvent: 'buy', herdItem: 'p-1', herdProperties: '{"price":3}' });
    click({ herdEvent: 'broken', herdProperties: '{' });
    await tick(3000);
    expect(browser.sent()).toMatchObject([{ type: 'buy', item_id: 'p-1', price: 3 }]);
  });
});
