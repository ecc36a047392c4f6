/**
 * Numbers that meet and must not be mixed: the compiler keeps them apart, and nothing of that is left when the code runs. The
 * functions say of a plain number what it is; what is computed from one of these is a plain number again.
 */
declare const brand: unique symbol;

type Branded<Name extends string> = number & { readonly [brand]: Name };

/** A byte of a file, counted from the start of the file. */
export type FileOffset = Branded<'FileOffset'>;

/** A byte of a migration stream, counted from its magic, wherever in a file that is. */
export type StreamPosition = Branded<'StreamPosition'>;

/**
 * A byte of guest-physical memory.
 *
 * @asType integer
 * @minimum 0
 */
export type GuestAddress = Branded<'GuestAddress'>;

/** A page of a RAM block, counted from the start of the block. */
export type PageNumber = Branded<'PageNumber'>;

export const fileOffset = (offset: number): FileOffset => offset as FileOffset;
export const streamPosition = (position: number): StreamPosition => position as StreamPosition;
export const guestAddress = (address: number): GuestAddress => address as GuestAddress;
export const pageNumber = (page: number): PageNumber => page as PageNumber;
