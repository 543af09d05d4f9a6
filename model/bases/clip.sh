#!/bin/sh
# clip.sh PHOTOS.. OUT.mp4: seven views of every photo that move for 24 frames each, at 1280x720. As it is; near and
# soft; from between, moved faster, every third with sensor noise; nearing and turning behind another photo that
# swings in front; receding; in a few flat colours, as drawn; of another place in every frame, every second drawn. The fourth and fifth
# move as no motion vector says, which on a thin link decides how it looks; the last is all cuts.
set -eu
for out; do :; done
i=0; before=
while [ $# -gt 1 ]; do
  i=$((i+1)); dx=$(( i%5 - 2 )); dy=$(( i%3 - 1 ))
  noise=null; [ $((i%3)) = 0 ] && noise=noise=alls=8:allf=t
  soft=null; [ $((i%2)) = 0 ] && soft=gblur=sigma=1.6
  drawn=null; [ $((i%2)) = 0 ] && drawn=gblur=sigma=2.5,elbg=codebook_length=14:nb_steps=1,median=radius=2
  ffmpeg -v error -i "$1" -i "${before:-$1}" -filter_complex "
    [0]split=4[p][q][r][s];
    [p]scale=2900:1800:force_original_aspect_ratio=increase:flags=lanczos,split=3[a][b][c];
    [a]scale=iw/2:ih/2:flags=area,loop=23:1:0,crop=1280:720:x='(in_w-1280)/2+n*$dx':y='(in_h-720)/2+n*$dy',setsar=1[a1];
    [b]gblur=sigma=0.9,loop=23:1:0,crop=1280:720:x='in_w/3-640+n*0.5':y='in_h/2-360+n*$dy',setsar=1[b1];
    [c]scale=iw*0.7:ih*0.7:flags=bicubic,loop=23:1:0,crop=1280:720:x='(in_w-1280)/2-n*4*$dx':y='(in_h-720)/2+n*3*$dy',setsar=1,$noise[c1];
    [q]scale=2944:1656:force_original_aspect_ratio=increase:flags=lanczos,crop=2944:1656,$soft,split[d][e];
    [d]zoompan=z='1.04+0.012*on':x='(iw-iw/zoom)/2+on*9*$dx':y='(ih-ih/zoom)/2+on*6*$dy':d=24:s=1472x828:fps=25,rotate=a='0.004*n*$dx':bilinear=1,crop=1280:720,setsar=1[d0];
    [1]scale=720:520:force_original_aspect_ratio=increase:flags=area,crop=720:520,$soft,loop=23:1:0,format=rgba,rotate=a='0.2*sin(n/5)':c=none:ow=900:oh=720:bilinear=1[o];
    [d0][o]overlay=x='200+180*sin(n/7)':y='120*cos(n/6)',setsar=1[d1];
    [e]zoompan=z='1.5-0.008*on':x='(iw-iw/zoom)/2-on*5*$dx':y='(ih-ih/zoom)/2-on*7*$dy':d=24:s=1472x828:fps=25,crop=1280:720,setsar=1[e1];
    [r]scale=1440:810:force_original_aspect_ratio=increase:flags=area,gblur=sigma=2.5,elbg=codebook_length=14:nb_steps=1,scale=iw*2:ih*2:flags=neighbor,median=radius=4,scale=iw/2:ih/2:flags=area,loop=23:1:0,crop=1280:720:x='(in_w-1280)/2+n*2*$dx':y='(in_h-720)/2-n*$dy',setsar=1[f1];
    [s]scale=2200:1400:force_original_aspect_ratio=increase:flags=area,$drawn,loop=23:1:0,crop=1280:720:x='mod(n*613,in_w-1280)':y='mod(n*389,in_h-720)',setsar=1[g1];
    [a1][b1][c1][d1][e1][f1][g1]concat=n=7,setsar=1,format=yuv420p" -frames:v 168 -r 25 -f rawvideo -
  before=$1; shift
done | ffmpeg -v error -y -f rawvideo -s 1280x720 -r 25 -pix_fmt yuv420p -i - -c:v libx264 -preset ultrafast -crf 12 \
  -bf 0 -colorspace bt709 -color_range tv "$out"
