import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { SavedVm } from '../../analysis/saved-vm.js';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { savedRunState } from '../../stream/global-state.js';
import {
  encodeLibvirtData,
  encodeLibvirtHeader,
  LIBVIRT_HEADER_BYTES,
  type LibvirtHeader,
} from '../../stream/libvirt-header.js';
import { concatenate } from '../../stream/stream-writer.js';
import { refuseUnlessWhole, writeImage } from './convert-mapped-ram.js';
import type { ConvertTarget, ConvertTargetOptions } from './convert-target.js';
import { writeConverted } from './converted-file.js';

/** A mapped-ram file behind libvirt's header and the XML of a domain: an image of its format `sparse`, which `virsh restore` loads. */
export const convertToLibvirt: ConvertTarget = {
  name: 'libvirt',
  summary: "a mapped-ram file with libvirt's header and a domain's XML, for virsh restore",
  async convert(saved, options) {
    refuseUnlessWhole(saved, options);
    const xml = await xmlFor(saved, options);
    const { converted } = await writeConverted(options.output, options, (fd, path) =>
      writeImage(saved, fd, path, options, libvirtHead(xml, saved)),
    );
    return { files: [converted], notes: [] };
  },
};

async function xmlFor(saved: SavedVm, { domain, domainXml, signal }: ConvertTargetOptions): Promise<string> {
  if (domain !== undefined) return await xmlOfDomain(saved, domain, signal);
  const xml = domainXml ?? saved.container.libvirt?.xml;
  if (xml !== undefined) return xml;
  throw new MapramError(
    'USAGE',
    `converting ${saved.path} for libvirt: it holds no XML of a domain; name the domain that was saved, or give its XML`,
    { path: saved.path },
  );
}

/** As libvirt itself writes it into the files of `virsh save`: with secrets, and for a QEMU of another version. */
async function xmlOfDomain(saved: SavedVm, domain: string, signal: AbortSignal | undefined): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(
      'virsh',
      ['--quiet', 'dumpxml', '--security-info', '--migratable', '--domain', domain],
      { ...defined({ signal }) },
    );
    return stdout.trim();
  } catch (error) {
    signal?.throwIfAborted();
    const { stderr = '', code } = error as { stderr?: string; code?: unknown };
    const reason = code === 'ENOENT' ? 'there is no virsh here' : stderr.trim().replaceAll(/\s*\n\s*/g, '; ');
    throw new MapramError(
      'USAGE',
      `converting ${saved.path} for libvirt: the XML of the domain ${domain} is not to be had: ${reason || errorReason(error)}`,
      { path: saved.path, cause: error },
    );
  }
}

/** For the XML to be edited later (`virsh save-image-edit`); what libvirt itself leaves. */
const SPARE_BYTES = 1024;
/** What libvirt aligns the stream to. */
const HEAD_ALIGNMENT = 2 ** 20;

function libvirtHead(xml: string, saved: SavedVm): Uint8Array {
  const needed = LIBVIRT_HEADER_BYTES + Buffer.byteLength(xml) + 1 + SPARE_BYTES;
  const length = Math.ceil(needed / HEAD_ALIGNMENT) * HEAD_ALIGNMENT;
  const before = saved.container.libvirt?.header.wasRunning;
  const header: LibvirtHeader & { format: 'sparse' } = {
    complete: true,
    version: 2,
    dataLength: length - LIBVIRT_HEADER_BYTES,
    wasRunning: before ?? savedRunState(saved.tail.sections) === 'running',
    format: 'sparse',
    cookieOffset: 0,
    littleEndian: true,
  };
  return concatenate([encodeLibvirtHeader(header), encodeLibvirtData(header, { xml })]);
}
