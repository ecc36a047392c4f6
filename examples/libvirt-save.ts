/**
 * Tells what a save of libvirt holds, without libvirt and without loading it.
 *
 *     node libvirt-save.ts /var/lib/libvirt/qemu/save/web.save
 */
import { openSavedVm } from 'mapram';
import { decodeDevice, deviceValues } from 'mapram/stream';

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('usage: libvirt-save.ts FILE');

const saved = await openSavedVm(file);
try {
  const { libvirt } = saved.container;
  if (libvirt === undefined) throw new Error(`${file} is no save of libvirt`);

  const [, name = '?'] = /<name>(.*?)<\/name>/.exec(libvirt.xml) ?? [];
  console.log(`domain ${name}, ${saved.configuration.machine}, format ${libvirt.header.format ?? 'unknown'}`);
  console.log(
    libvirt.header.wasRunning ? 'it will run when it is restored' : 'it will be paused when it is restored',
  );
  for (const problem of saved.problems) console.log(`problem: ${problem}`);

  for (const block of saved.blocks) {
    let pages = 0;
    for (const { count } of saved.runs(block)) pages += count;
    const address = saved.guestMap.addressOf(block.idstr, 0);
    const place = address === undefined ? 'place not known' : `at 0x${address.toString(16)}`;
    console.log(
      `${block.idstr}: ${block.usedLength} bytes ${place}, ${pages} of ${block.pageCount} pages with contents`,
    );
  }

  const cpu = saved.devices.find(({ idstr }) => idstr === 'cpu');
  if (cpu?.description !== undefined) {
    const { 'env.eip': eip } = deviceValues(decodeDevice(cpu.description, cpu.data));
    console.log(`the first CPU is at 0x${BigInt(eip as bigint).toString(16)}`);
  }
} finally {
  await saved.close();
}
