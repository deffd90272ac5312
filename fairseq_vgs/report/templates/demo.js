// Says why one cannot speak: browsers hide microphones from pages that came over the network without https.
(async () => {
  const devices = await navigator.mediaDevices?.enumerateDevices() ?? [];
  const state = !navigator.mediaDevices ? "insecure-page"
    : devices.some(device => device.kind === "audioinput") ? "" : "no-microphone";
  if (state) document.documentElement.classList.add(state);
})();
