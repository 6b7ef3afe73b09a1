/** Properties of an event; `event_id`, `type` and `time` are set by the tracker. */
export type Properties = Record<string, unknown>;

/** An event as it is sent to the collector. */
export interface TrackedEvent extends Properties {
  event_id: string;
  type: string;
  /** Milliseconds since 1970: by the clock of the browser while it waits, by the clock of the collector when it is sent. */
  time: number;
}

/** Settings of a tracker. A number may be written as a string: attributes of the script are passed on as they are. */
export interface Options {
  /** The address of the collector: `https://events.shop.example/track`. */
  endpoint: string;
  /** The write key; empty if the collector asks for none. */
  key: string;
  /** `required`: nothing is stored or sent before `optIn()`. */
  consent?: 'required' | '';
  /** Any value but an empty one: Do Not Track and Global Privacy Control count as a refusal, unless the visitor opted in. */
  respectDnt?: boolean | string;
  /** Days until a visitor gets a new id; 0: no visitor id. By default 30. */
  visitorDays?: number | string;
  /** Names of the URL parameters that are removed from addresses, separated by commas. By default those of secrets and e-mail. */
  stripParams?: string;
  /** The part of the visitors whose events are sent, from 0 to 1. By default 1. */
  sample?: number | string;
  /** Called for each event that is given up, with the reason. */
  onError?: (reason: string, event?: TrackedEvent) => void;
}

/** The API, the same for the script and the package. No method throws. */
export interface Tracker {
  /** Starts the tracker. Further calls have no effect, and other methods have none before it. */
  init(options: Options): void;
  /** Queues an event. Returns its id, or nothing if it is not queued. */
  trackEvent(type: string, item?: string | null, properties?: Properties): string | undefined;
  /** Queues an event; its item, if any, is among the properties, as `item_id`. */
  track(type: string, properties?: Properties): string | undefined;
  /** Queues a page view; the item is the path, unless another one is given. */
  page(item?: string | null, properties?: Properties): string | undefined;
  /** Sets the user of later events, also on later pages. */
  identify(user: string): void;
  /** Forgets the user and the visitor id, e.g. at logout. */
  reset(): void;
  /** The visitor agrees: events held back are sent. */
  optIn(): void;
  /** The visitor refuses: events that wait, the user and the visitor id are deleted. */
  optOut(): void;
  /** Sends now. Resolves when nothing is left, or when the collector has to be tried again later. */
  flush(): Promise<void>;
}
