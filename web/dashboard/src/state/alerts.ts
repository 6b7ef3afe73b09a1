/**
 * The alerts on the page: a join-semilattice by id, as in every store of the pipeline. Records of one alert may come
 * twice or out of order; the newest wins, so the list does not depend on the order of arrival.
 */

import type { Alert, AlertState, Explanation } from '../wire';

/** Most alerts kept; the oldest go first. */
export const MAX_ALERTS = 200;

export interface AlertBook {
  /** Newest first. Never withdrawn. */
  list: Alert[];
  /** Ids withdrawn since the snapshot, so that a late `early` does not bring one back; bounded like the list. */
  withdrawn: string[];
  /** Ids raised since the snapshot: these are announced and animate in. */
  fresh: string[];
}

export const NO_ALERTS: AlertBook = { list: [], withdrawn: [], fresh: [] };

const RANK: Record<AlertState, number> = { early: 0, firing: 1, resolved: 2, withdrawn: 3 };

export const isFiring = (alert: Alert): boolean => alert.state === 'early' || alert.state === 'firing';

/** The time shown for an alert. */
export const raisedAt = (alert: Alert): number => alert.raised;

/**
 * The order of the records of one alert: the highest state is the newest, in it the latest end of the episode, then the most
 * events. Score and summary make the order total.
 */
function order(a: Alert, b: Alert): number {
  const until = (alert: Alert) => alert.episode?.until ?? Number.MIN_SAFE_INTEGER;
  return (
    RANK[a.state] - RANK[b.state] ||
    until(a) - until(b) ||
    a.count - b.count ||
    a.score - b.score ||
    Number(a.summary > b.summary) - Number(a.summary < b.summary)
  );
}

/**
 * The later one of two explanations of an alert: of the latest end, then of the most events. Users and summary make the order total.
 * A record without one takes nothing back.
 */
function latest(known: Explanation | null, next: Explanation | null): Explanation | null {
  if (known === null || next === null) return known ?? next;
  const difference =
    next.until - known.until ||
    next.events - known.events ||
    next.users - known.users ||
    Number(next.summary > known.summary) - Number(next.summary < known.summary);
  return difference > 0 ? next : known;
}

/** Merges what is known of an alert with what arrives. Feedback that arrives replaces what is known. */
export function joinAlert(known: Alert, next: Alert): Alert {
  const winner = order(next, known) > 0 ? next : known;
  // The first time it was raised is the time it was raised.
  const raised = Math.min(known.raised, next.raised);
  const useful = next.useful ?? known.useful;
  const explanation = latest(known.explanation, next.explanation);
  return winner.raised === raised && winner.useful === useful && winner.explanation === explanation
    ? winner
    : { ...winner, raised, useful, explanation };
}

/** How long the episode of an alert has lasted, up to its newest closed window; null before that has closed. */
export const lasted = ({ episode }: Alert): number | null =>
  episode === null ? null : episode.until - episode.since;

/** Feedback on an alert that the server has stored. */
export function withFeedback(book: AlertBook, id: string, useful: boolean): AlertBook {
  return { ...book, list: book.list.map((alert) => (alert.id === id ? { ...alert, useful } : alert)) };
}

/** A snapshot replaces what was known: what it no longer holds is gone. */
export function alertsFrom(snapshot: Alert[]): AlertBook {
  const list = snapshot.filter((alert) => alert.state !== 'withdrawn');
  return { list: inOrder(list), withdrawn: [], fresh: [] };
}

export function withAlert(book: AlertBook, alert: Alert): AlertBook {
  if (book.withdrawn.includes(alert.id)) return book;
  if (alert.state === 'withdrawn') {
    return {
      list: book.list.filter((known) => known.id !== alert.id),
      withdrawn: [...book.withdrawn, alert.id].slice(-MAX_ALERTS),
      fresh: book.fresh.filter((id) => id !== alert.id),
    };
  }
  const known = book.list.find((candidate) => candidate.id === alert.id);
  if (known) {
    const joined = joinAlert(known, alert);
    if (joined === known) return book;
    return { ...book, list: inOrder(book.list.map((each) => (each === known ? joined : each))) };
  }
  return {
    ...book,
    list: inOrder([alert, ...book.list]),
    fresh: [...book.fresh, alert.id].slice(-MAX_ALERTS),
  };
}

function inOrder(list: Alert[]): Alert[] {
  return [...list].sort((a, b) => raisedAt(b) - raisedAt(a) || (a.id < b.id ? -1 : 1)).slice(0, MAX_ALERTS);
}
