/** The device state in a file, decoded, for the page. */

import { defined } from '../defined.js';
import { MappedRamImage } from '../mapped-ram/image.js';
import { decodeDevice } from '../stream/device-decoder.js';
import { deviceValues } from '../stream/device-values.js';

export interface SavedDevice {
  readonly idstr: string;
  readonly instanceId: number;
  readonly version: number;
  /** Bytes of its data. */
  readonly length: number;
  /** Fields by name; absent where the file does not describe them. */
  readonly values?: object;
}

/** @throws MapramError as opening an image does */
export async function savedDevices(file: string): Promise<SavedDevice[]> {
  await using image = await MappedRamImage.open(file);
  return image.devices.map(({ idstr, instanceId, versionId, data, description }) => ({
    idstr,
    instanceId,
    version: versionId,
    length: data.byteLength,
    ...defined({
      values: description === undefined ? undefined : deviceValues(decodeDevice(description, data)),
    }),
  }));
}
