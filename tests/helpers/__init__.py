"""What many tests need."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / 'tests/golden'  # recorded numbers of the public code
