"""What touches the machine, and knows no network and no dataset."""
import warnings

from system import cpu

cpu.prepare()  # before Paddle is imported, from whichever package comes first
warnings.filterwarnings('ignore', message='No ccache found')  # Paddle's import; nothing is compiled here
warnings.filterwarnings('ignore', message='When training, we now always track')  # as every framework does
