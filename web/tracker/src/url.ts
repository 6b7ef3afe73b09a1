/** What addresses must not carry to the collector, unless the page says otherwise: secrets and e-mail addresses. */
export const STRIPPED = 'token,code,key,password,email';

/** The address without the parameters `names` (separated by commas), without the fragment, where tokens hide. Browsers leave out credentials. */
export const cleanUrl = (address: string, names: string): string => {
  if (!address) return '';
  const url = new URL(address);
  names.split(',').map((name) => url.searchParams.delete(name));
  url.hash = '';
  return url.href;
};
