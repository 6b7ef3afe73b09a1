export { HerdProvider, type HerdProviderProps } from './provider';
export {
  useAlerts,
  useHerd,
  useLive,
  useTrack,
  useTrackView,
  useTrending,
  type TrackViewOptions,
} from './hooks';
export { LivePopularity, Trending, type LivePopularityProps, type TrendingProps } from './widgets';
export type {
  AlertList,
  ConnectionPhase,
  Direction,
  HerdAlert,
  LiveItem,
  LivePoint,
  TrendingEntry,
  TrendingList,
} from './types';
