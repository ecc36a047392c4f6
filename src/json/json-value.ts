/** What a JSON text holds. Integers beyond 2^53-1 are `bigint`. */
export type JsonValue = null | boolean | number | bigint | string | JsonDouble | JsonValue[] | JsonObject;
export interface JsonObject {
  [key: string]: JsonValue;
}

/** A JSON number written with a fraction or an exponent, or too big for 64 bits: never an integer to QEMU. */
export class JsonDouble {
  constructor(
    readonly value: number,
    /** As it was written, so that it can be passed on unchanged. */
    readonly text: string,
  ) {}
}

/** Narrows an integer to `number` where it fits exactly. */
export function toJsonInteger(value: bigint): number | bigint {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)
    ? Number(value)
    : value;
}
