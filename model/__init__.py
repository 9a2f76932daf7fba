"""The network and what its numbers mean. Knows no files of a dataset and no command line."""
import warnings

from model import cpu

cpu.prepare()
warnings.filterwarnings('ignore', message='No ccache found')  # Paddle's import; nothing is compiled here
warnings.filterwarnings('ignore', message='When training, we now always track')  # as every framework does
