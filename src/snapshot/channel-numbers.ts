/** File channels where nobody says how many: enough to keep a disk busy. */
export const DEFAULT_CHANNELS = 4;
