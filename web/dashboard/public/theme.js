// Sets the remembered theme before the first paint. A file, not inline, because the page allows no inline script.
try {
  const theme = localStorage.getItem('herd.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden: the system's theme applies.
}
