from dfad_fast.cli import main

main()
