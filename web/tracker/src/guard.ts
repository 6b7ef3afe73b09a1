/** `run`, which never throws into the page. */
export const guard =
  <Values extends unknown[], Result>(run: (...values: Values) => Result) =>
  (...values: Values): Result | undefined => {
    try {
      return run(...values);
    } catch {
      // Nothing is returned.
    }
  };

/** Listens before handlers of the page that stop the event. */
export const listen = (type: string, run: (event: Event) => void): void => {
  addEventListener(type, guard(run), true);
};
