/**
 * The alerts on the page: a join-semilattice by id, as in every store of the pipeline. Records of one alert may come
 * twice or out of order; the highest state wins, so the list does not depend on the order of arrival.
 */

import type { Alert, AlertState } from '../wire';

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

/** The record that wins: the higher state, and within one the one that has seen more events. */
export function joinAlert(a: Alert, b: Alert): Alert {
  const higher = RANK[b.state] - RANK[a.state] || b.count - a.count;
  const winner = higher > 0 ? b : a;
  // The first time it was raised is the time it was raised.
  const raised = Math.min(a.raised, b.raised);
  return winner.raised === raised ? winner : { ...winner, raised };
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
