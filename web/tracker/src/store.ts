import { guard } from './guard';

type Values = Record<string, string>;

/** Names and values that the tabs of an origin share. */
export type Store = [
  get: (name: string) => string,
  set: (name: string, value: string | number) => void,
  remove: (name: string) => void,
  names: (start: string) => string[],
  isShared: unknown,
];

/**
 * localStorage, or memory for what it does not take: it may be blocked or full, and without permission nothing is put there. Both
 * are used as plain objects.
 */
export const openStore = (mayStore: () => unknown): Store => {
  const memory: Values = {};
  // Even to look at localStorage throws where it is blocked; where it is switched off, it is null.
  const shared = guard(() => localStorage as unknown as Values)() || {};
  return [
    (name) => memory[name] || shared[name] || '',
    (name, value) => {
      const isAllowed = mayStore();
      memory[name] = '' + value;
      if (isAllowed)
        guard(() => {
          shared[name] = memory[name] as string;
          // It is read first.
          delete memory[name];
        })();
    },
    (name) => {
      delete memory[name];
      delete shared[name];
    },
    (start) => Object.keys({ ...memory, ...shared }).filter((name) => name.startsWith(start)),
    shared.setItem,
  ];
};
