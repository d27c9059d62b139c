// Greets the upstream in words that the operator chooses, and turns away whoever says to be nobody.

// Positions: in `reads` below, and in `requestWrites`.
const X_NAME = 0;
const X_GREETING = 0;

const ABOUT = {
  name: 'javascript-hello',
  version: '1.0.0',
  summary: 'Greets the upstream.',
  facts: { path: true, principal: true },
  powers: { deny: true },
  reads: ['x-name'],
  responseReads: [],
  requestWrites: ['x-greeting'],
  responseWrites: [],
  requestBody: { tag: 'none' },
  responseBody: { tag: 'none' },
  counters: [],
  configSchema: JSON.stringify({
    type: 'object',
    properties: { greeting: { type: 'string' } },
    required: ['greeting'],
    additionalProperties: false,
  }),
};

const NEXT = {
  action: { tag: 'next' }, requestEdits: [], responseEdits: [], takes: [], charges: [], notes: [], carry: new Uint8Array(),
};

const NOBODY = { status: 403, code: 'nobody_is_not_welcome', message: 'Say who you are in x-name.' };

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const greetings = new Map();

export function describe() {
  return ABOUT;
}

export function configure(number, slot, config) {
  const { greeting } = JSON.parse(config);
  if (!greeting.trim()) {
    throw [{ pointer: '/greeting', message: 'A greeting needs words; write for example `good morning`.' }];
  }
  greetings.set(number, greeting);
  return { scopes: [], limits: [], targets: [], maximumCharge: 0n };
}

export function onRequest(request) {
  const field = request.fields.find(({ field }) => field === X_NAME);
  const name = field && decoder.decode(field.value);
  if (name === 'nobody') {
    return { ...NEXT, action: { tag: 'deny', val: { tag: 'custom', val: NOBODY } } };
  }
  const words = `${greetings.get(request.slot)}, ${name || request.principal?.org || 'stranger'}, at ${request.path}`;
  return { ...NEXT, requestEdits: [{ field: X_GREETING, change: { tag: 'set', val: encoder.encode(words) } }] };
}
