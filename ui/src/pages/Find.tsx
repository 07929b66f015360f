export default function Find(_props: { onClose: () => void }) { return null; }
