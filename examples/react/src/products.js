/** The products that `herd generate` sends events of, with names. */
const KINDS = [
  "Desk lamp",
  "Floor lamp",
  "Pendant",
  "Lantern",
  "Spotlight",
  "Night light",
];
const COLOURS = ["copper", "linen", "smoke", "ivory", "moss", "coral", "ink"];

export function nameOf(item) {
  const number = Number(item.replace(/\D/g, ""));
  return `${KINDS[number % KINDS.length]}, ${COLOURS[number % COLOURS.length]} ${number}`;
}

/** In euros. */
export const priceOf = (item) =>
  19 + ((Number(item.replace(/\D/g, "")) * 37) % 180);

export const FEATURED = [1, 2, 3, 7, 10, 12].map(
  (number) => `product-${number}`,
);
