/** Endpoint, region and credentials from where the tools of AWS look for them. */

import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { hasErrno } from '../../io/system-error.js';
import { unusable } from '../open-place.js';

export interface AwsSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly region: string;
  /** Without these requests are not signed: for buckets that anyone may read. */
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly sessionToken?: string;
}

type Variables = Readonly<Record<string, string | undefined>>;
type Section = ReadonlyMap<string, string>;

/**
 * An endpoint may be plain HTTP where the user says so: signatures do not give the secret away.
 *
 * @throws MapramError `USAGE` for an endpoint that is none
 */
export function awsSettings(address: string, env: Variables = process.env): AwsSettings {
  const profile = env.AWS_PROFILE || 'default';
  const config = section(
    env.AWS_CONFIG_FILE ?? inHome('config'),
    profile === 'default' ? profile : `profile ${profile}`,
  );
  const credentials = section(env.AWS_SHARED_CREDENTIALS_FILE ?? inHome('credentials'), profile);
  const inFile = (name: string) => credentials.get(name) ?? config.get(name);
  const region = env.AWS_REGION || env.AWS_DEFAULT_REGION || config.get('region') || 'us-east-1';
  const endpoint =
    env.AWS_ENDPOINT_URL_S3 ||
    env.AWS_ENDPOINT_URL ||
    config.get('endpoint_url') ||
    `https://s3.${region}.amazonaws.com`;
  // Those of the environment belong together, and so do those of a file.
  const fromEnvironment = env.AWS_ACCESS_KEY_ID !== undefined && env.AWS_ACCESS_KEY_ID !== '';
  const [accessKeyId, secretAccessKey, sessionToken] = fromEnvironment
    ? [env.AWS_ACCESS_KEY_ID, env.AWS_SECRET_ACCESS_KEY, env.AWS_SESSION_TOKEN]
    : [inFile('aws_access_key_id'), inFile('aws_secret_access_key'), inFile('aws_session_token')];
  return {
    endpoint: checkedEndpoint(address, endpoint),
    region,
    // Empty variables are as good as none.
    ...defined({
      accessKeyId: accessKeyId || undefined,
      secretAccessKey: secretAccessKey || undefined,
      sessionToken: sessionToken || undefined,
    }),
  };
}

function checkedEndpoint(address: string, endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.username !== '')
    throw unusable(address, `its endpoint ${endpoint} is no address of a web server`);
  return url.href.replace(/\/+$/, '');
}

const inHome = (name: string): string => path.join(homedir(), '.aws', name);

/** One section of a file of AWS: lines `name = value` below `[section]`. Empty where there is no such file. */
function section(file: string, wanted: string): Section {
  const found = new Map<string, string>();
  let current = '';
  for (const line of textOf(file).split('\n')) {
    const [, heading] = /^\s*\[\s*([^\]]*?)\s*\]/.exec(line) ?? [];
    if (heading !== undefined) current = heading;
    const [, name, value] = /^\s*([a-z_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (current === wanted && name !== undefined && value !== undefined) found.set(name, value);
  }
  return found;
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT', 'ENOTDIR')) return '';
    throw new MapramError('IO', `reading ${file}: ${errorReason(cause)}`, { path: file, cause });
  }
}
