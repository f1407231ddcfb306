// Which form fields are the parts of a business card, and what is never read.

// autocomplete tokens (HTML Standard, "Autofill") and usual field names, in lower case without separators.
const PARTS = {
  name: /^(full|given|family|first|last|sur|)name$/,
  email: /^e?mail(address)?$/,
  phone: /^(tel(ephone)?|phone|mobile)$/,
  job_title: /^((organization|job)title|position)$/,
  company: /^(organization|company(name)?)$/,
  address:
    /^((street)?address|street|address(line|level)\d|post(al)?code|zip|city|town|state|region|country(name)?)$/,
};

// What stands between the values of a part that forms spread over several fields.
const BETWEEN = { name: " ", address: ", " };

const READ_TYPES = /^(text|email|tel|search|textarea|select-one)$/;

/** Part of a business card that a field holds; undefined for all other fields, whose value is then not looked at. */
export function partOf({ type, name, autocomplete }) {
  if (!READ_TYPES.test(type)) return undefined;
  const token = (autocomplete || "").trim().toLowerCase().split(/\s+/).pop();
  // A field that says what it is (cc-name, username, one-time-code) is not judged by its name.
  const label = /^(on|off)?$/.test(token) ? name || "" : token;
  const plain = label.toLowerCase().replace(/[\W_]/g, "");
  return Object.keys(PARTS).find((part) => PARTS[part].test(plain));
}

/** The business card in a form's fields, in their order; undefined when there is none. */
export function readContact(fields) {
  const contact = {};
  for (const field of fields) {
    const part = partOf(field);
    const value = part && clean(field.value);
    if (!value) continue;
    if (!contact[part]) contact[part] = value;
    else if (BETWEEN[part]) contact[part] += BETWEEN[part] + value;
  }
  return pickContact(contact);
}

/** The fields of a contact that hitmeter knows; undefined when there is none. */
export function pickContact(given) {
  let contact;
  for (const field of Object.keys(PARTS)) {
    const value = clean(given?.[field]);
    if (value) contact = { ...contact, [field]: value };
  }
  return contact;
}

const clean = (value) => (typeof value === "string" ? value.replace(/\s+/g, " ").trim().slice(0, 500) : "");
