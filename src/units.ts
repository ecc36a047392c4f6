/** Numbers of results. `scripts/result-schemas.mjs` reads the tags below, so that JSON Schemas say what may come. */

/**
 * bytes
 *
 * @asType integer
 * @minimum 0
 */
export type Bytes = number;

/**
 * @asType integer
 * @minimum 0
 */
export type Count = number;

/**
 * milliseconds
 *
 * @minimum 0
 */
export type Milliseconds = number;

/**
 * bytes a second
 *
 * @minimum 0
 */
export type BytesPerSecond = number;
