/** What the views ask of the browser: the clock, the width of a box, the theme, a wish for less motion. */

import { type RefObject, useCallback, useEffect, useLayoutEffect, useState } from 'react';

/** The time, renewed every `every` milliseconds. */
export function useNow(every = 1000): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/** The width of an element in CSS pixels; 0 before it is known. */
export function useWidth(ref: RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    setWidth(element.clientWidth);
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return width;
}

/** Whether a media query holds, as it changes. */
export function useMedia(query: string): boolean {
  const [holds, setHolds] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const follow = () => setHolds(list.matches);
    follow();
    list.addEventListener('change', follow);
    return () => list.removeEventListener('change', follow);
  }, [query]);
  return holds;
}

export const wantsLessMotion = (): boolean => matchMedia('(prefers-reduced-motion: reduce)').matches;

export type Theme = 'light' | 'dark';
const THEME_KEY = 'herd.theme'; // public/theme.js reads it before the first paint.

/** The theme in force, and a switch that is remembered. Until it is used, the system's theme applies. */
export function useTheme(): [Theme, () => void] {
  const [chosen, setChosen] = useState(() => document.documentElement.dataset.theme);
  const systemDark = useMedia('(prefers-color-scheme: dark)');
  const theme: Theme = chosen === 'light' || chosen === 'dark' ? chosen : systemDark ? 'dark' : 'light';
  const toggle = useCallback(() => {
    const next = theme === 'dark' ? 'light' : 'dark';
    document.documentElement.dataset.theme = next;
    setChosen(next);
    try {
      localStorage.setItem(THEME_KEY, next);
    } catch {
      // Storage may be forbidden: the choice lasts as long as the page.
    }
  }, [theme]);
  return [theme, toggle];
}
