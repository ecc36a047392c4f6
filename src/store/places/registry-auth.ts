/** How a registry is shown who asks: nothing at first, then what its answer 401 demands, Basic or a Bearer token. */
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { type RegistryLogin, registryLogin } from './docker-login.js';
import { describeAnswer, sendRequest } from './http-requests.js';

/** A token is asked for anew before it ends. */
const EARLY_MS = 10_000;
/** What the token protocol of registries has where the answer does not tell. */
const DEFAULT_LIFE_S = 60;
const MAXIMUM_TOKEN = 1 << 20;

/** What the header WWW-Authenticate asks for. */
interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  readonly realm: string;
  readonly service: string | undefined;
}

export class RegistryAuth {
  #challenge: Challenge | undefined;
  #token: { text: string; until: number } | undefined;
  #login: Promise<RegistryLogin | undefined> | undefined;
  #pending: Promise<string | undefined> | undefined;

  constructor(
    private readonly host: string,
    private readonly repository: string,
    private readonly isAllowed: (url: URL) => boolean,
  ) {}

  /** Header fields for a request to the registry itself. */
  async headers(): Promise<Record<string, string>> {
    this.#pending ??= this.#authorization().finally(() => {
      this.#pending = undefined;
    });
    const authorization = await this.#pending;
    return defined({ authorization });
  }

  /**
   * Takes in what an answer 401 demands.
   *
   * @returns whether it is worth asking again
   */
  challenge(header: string | null): boolean {
    const challenge = parseChallenge(header ?? '');
    if (challenge === undefined) return false;
    const known = this.#challenge;
    this.#challenge = challenge;
    const hadToken = this.#token !== undefined;
    this.#token = undefined;
    return known === undefined || hadToken;
  }

  async #authorization(): Promise<string | undefined> {
    const challenge = this.#challenge;
    if (challenge === undefined) return undefined;
    this.#login ??= registryLogin(this.host);
    const login = await this.#login;
    if (challenge.scheme === 'basic') return login && `Basic ${basic(login)}`;
    if (this.#token === undefined || this.#token.until < Date.now())
      this.#token = await this.#fetchToken(challenge, login);
    return `Bearer ${this.#token.text}`;
  }

  async #fetchToken({ realm, service }: Challenge, login: RegistryLogin | undefined) {
    const doing = `logging in at ${this.host}`;
    const url = URL.canParse(realm) ? new URL(realm) : undefined;
    if (url === undefined || !this.isAllowed(url)) {
      throw new MapramError(
        'IO',
        `${doing}: it wants tokens to be fetched from ${realm}, which is not protected by TLS`,
      );
    }
    const request = this.#tokenRequest(url, service, login);
    const answer = await sendRequest({ ...request, maximum: MAXIMUM_TOKEN }, doing, async () =>
      login === undefined || login.identityToken !== undefined
        ? {}
        : { authorization: `Basic ${basic(login)}` },
    );
    if (answer.status !== 200) {
      throw new MapramError(
        'IO',
        `${doing}: ${realm} answers ${describeAnswer(answer)}; log in with \`docker login ${this.host}\``,
      );
    }
    return tokenOf(answer.body, doing);
  }

  #tokenRequest(url: URL, service: string | undefined, login: RegistryLogin | undefined) {
    const scope = `repository:${this.repository}:pull,push,delete`;
    const fields = { ...defined({ service }), scope };
    if (login?.identityToken !== undefined) {
      const form = {
        ...fields,
        grant_type: 'refresh_token',
        client_id: 'mapram',
        refresh_token: login.identityToken,
      };
      return {
        method: 'POST',
        url: url.href,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: Buffer.from(String(new URLSearchParams(form))),
      };
    }
    for (const [name, value] of Object.entries(fields)) url.searchParams.set(name, value);
    return { method: 'GET', url: url.href };
  }
}

const basic = ({ user, password }: RegistryLogin): string =>
  Buffer.from(`${user}:${password}`).toString('base64');

function tokenOf(body: Buffer, doing: string): { text: string; until: number } {
  let answer: { token?: unknown; access_token?: unknown; expires_in?: unknown };
  try {
    answer = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new MapramError('FORMAT', `${doing}: the answer is not JSON`, { cause });
  }
  const text = answer.token ?? answer.access_token;
  if (typeof text !== 'string' || !/^[\x21-\x7e]+$/.test(text))
    throw new MapramError('FORMAT', `${doing}: the answer has no token`);
  const life = typeof answer.expires_in === 'number' ? answer.expires_in : DEFAULT_LIFE_S;
  return { text, until: Date.now() + life * 1000 - EARLY_MS };
}

function parseChallenge(header: string): Challenge | undefined {
  const [, name, rest = ''] = /^\s*(basic|bearer)\b\s*(.*)$/i.exec(header) ?? [];
  if (name === undefined) return undefined;
  const fields = new Map(
    [...rest.matchAll(/([a-z]+)="([^"]*)"/gi)].map(([, key = '', value = '']) => [key.toLowerCase(), value]),
  );
  const scheme = name.toLowerCase() as Challenge['scheme'];
  return { scheme, realm: fields.get('realm') ?? '', service: fields.get('service') };
}
