"""The former place of `tools.visualize`."""
from system.command import renamed

if __name__ == '__main__':
    renamed('python -m data.visualize', 'python -m tools.visualize')
