/** A random id of 128 bits. `crypto.randomUUID` is missing on pages without TLS, `getRandomValues` is not. */
export const randomId = (): string => crypto.getRandomValues(new Uint32Array(4)).join('-');

/** Where an id lies among all, from 0 to 1: the same for the same id, evenly spread. Without an id, anywhere. */
export const quantile = (id: string): number => parseInt(id) / 2 ** 32 || Math.random();
