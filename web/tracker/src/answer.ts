/** The result of one event in an answer of the collector: accepted ones have an id, invalid ones a code. */
export interface Item {
  event_id?: string;
  code?: string;
}

/** From this age on, in ms, an event has had its last try: a week. */
export const AGE_MAX = 6048e5;

/**
 * What becomes of an event of this age: `''`: done; undefined: to be sent again; otherwise the reason why it is given up. Status 0 stands for no
 * answer. An answer without results has accepted nothing, whatever its status: a proxy may have written it.
 */
export const outcome = (status: number, item: Item, age: number): string | undefined =>
  item.event_id
    ? ''
    : // 408 and 429 pass, other 4xx do not.
      item.code || (/^4(?!08|29)/.test('' + status) ? '' + status : age > AGE_MAX ? 'expired' : undefined);
