/** Numbers and times as people read them. English, whatever the browser's locale, like the rest of the page. */

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const clockSeconds = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
});

const STEPS: [number, string][] = [
  [1e12, 'T'],
  [1e9, 'B'],
  [1e6, 'M'],
  [1e3, 'k'],
];

/** Short: 7, 2.5, 999, 12.3k, 4.56M. For places where width matters. */
export function short(n: number): string {
  if (!Number.isFinite(n)) return '–';
  const size = Math.abs(n);
  if (size < 1000) {
    const text = Number.isInteger(n) ? String(n) : precise.format(n);
    return text === '-0' ? '0' : text;
  }
  for (const [step, unit] of STEPS) {
    // 999,950 would read "1000k".
    if (size >= step * 0.9995) return `${Number((n / step).toPrecision(3))}${unit}`;
  }
  return whole.format(n);
}

/** In full: 1,234,567; fractions to three digits. */
export function full(n: number): string {
  if (!Number.isFinite(n)) return '–';
  return Number.isInteger(n) || Math.abs(n) >= 1000 ? whole.format(n) : precise.format(n);
}

/** 0.1234 → 12.3 %; small ones keep a digit, none is shown as nothing. */
export function percent(share: number): string {
  if (!Number.isFinite(share)) return '–';
  const value = share * 100;
  if (value > 0 && value < 0.1) return '<0.1 %';
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** A length of time: 450 ms, 8 s, 2 min, 1 h 5 min, 3 d. */
export function span(ms: number): string {
  if (!Number.isFinite(ms)) return '–';
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  if (seconds !== 60 && seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} d`;
}

/** How long ago: "just now", then whole units. */
export function ago(then: number, now: number): string {
  const ms = now - then;
  if (ms < 2000) return 'just now';
  return `${span(ms < 10_000 ? Math.floor(ms / 1000) * 1000 : ms)} ago`;
}

/** How many times what was expected: "11.8×"; null where that says nothing. */
export function times(value: number, expected: number): string | null {
  if (!(expected > 0) || !Number.isFinite(value)) return null;
  const ratio = value / expected;
  if (ratio >= 1000) return '>999×';
  return `${ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(1)}×`;
}

export const time = (at: number): string => clock.format(at);
export const timeWithSeconds = (at: number): string => clockSeconds.format(at);

/** A duration in two units: 50 s, 4 min 10 s, 1 h 5 min, 2 d 3 h. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms)) return '–';
  const seconds = Math.max(0, Math.round(ms / 1000));
  const units: [number, string][] = [
    [86_400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
  ];
  const first = Math.max(
    0,
    units.findIndex(([size]) => seconds >= size),
  );
  if (seconds === 0) return '0 s';
  let rest = seconds;
  const parts: string[] = [];
  for (const [size, unit] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count} ${unit}`);
  }
  return parts.join(' ');
}

/** With its sign: +5,120, −35, 0. */
export function signed(n: number): string {
  if (!Number.isFinite(n)) return '–';
  const size = full(Math.abs(n));
  if (size === '0') return '0';
  return `${n < 0 ? '−' : '+'}${size}`;
}

/** An alert's words without the key and a colon in front, because the page already shows the key as the title. */
export function withoutKey(summary: string, key: string): string {
  const rest = summary.startsWith(`${key}: `) ? summary.slice(key.length + 2) : summary;
  // A key at the beginning of the sentence is written as it is.
  return rest.startsWith(`${key} `) ? rest : rest.charAt(0).toUpperCase() + rest.slice(1);
}
