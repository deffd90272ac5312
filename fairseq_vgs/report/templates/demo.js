// Says why one cannot speak: browsers hide microphones from pages that came over the network without https.
(async () => {
  const say = (state, isSo) => document.documentElement.classList.toggle(state, isSo);
  if (!navigator.mediaDevices) return say("insecure-page", true);
  const devices = await navigator.mediaDevices.enumerateDevices();
  if (!devices.some(device => device.kind === "audioinput")) return say("no-microphone", true);
  const permission = await navigator.permissions.query({ name: "microphone" });
  const look = () => say("denied-microphone", permission.state === "denied");
  permission.addEventListener("change", look);
  look();
})();
